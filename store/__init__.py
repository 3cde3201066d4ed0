"""What ``client.py`` is made of: the collection's schema, the SDK's border, grouped landings, filters, reading back."""

import warnings

import authlib.deprecate  # type: ignore[import-untyped]

# The SDK imports authlib, which tells every user of ours at every start that a module of its own is deprecated.
warnings.simplefilter("ignore", authlib.deprecate.AuthlibDeprecationWarning)
