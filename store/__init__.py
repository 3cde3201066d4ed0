"""What ``client.py`` is made of: the collection's schema, the SDK's border, grouped landings, filters."""
