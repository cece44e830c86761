"""The Companion endpoint that Uppy uploads through."""
