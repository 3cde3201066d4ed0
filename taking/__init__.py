"""What leaves the system: tables of results, original images in a folder, and exports of whole ranges. It only reads:
nothing here changes the ledger, the queues or the store.
"""
