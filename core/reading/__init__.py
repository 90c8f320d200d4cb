"""What lies in a folder: images of every format, captions beside them, and what their files say."""
