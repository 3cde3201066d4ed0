"""The production models: their description, what prepares and starts them, and the code that their ``model.py`` share.

``description`` says what there is; ``configs`` writes it down for Triton; ``options``, ``weights``, ``memory`` and
``prepare`` turn settings into a repository that fits the machine, with the standard library alone. ``serving`` and what
imports it run inside Triton: ``thin`` with numpy, ``towers``, ``late``, ``florence`` and ``vlm`` with torch.
"""
