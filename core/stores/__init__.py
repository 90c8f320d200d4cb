"""Object stores: images, datasets and LoRA files behind addresses such as ``s3://bucket/photos``.

An address is anything that fsspec opens. What is read is mirrored: each object is downloaded once
into a bounded folder, and everything else works on files. What is written is made in a folder
first, and uploaded when it is whole.
"""
