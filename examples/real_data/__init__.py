"""Real pictures with captions and real illustrated pages, from Debian packages, in the formats that people use.

::

    fetch      packages -> files             (apt-get download, dpkg-deb -x; needs no root)
    pictures   files -> image-caption pairs  (stamps of Tux Paint, drawings of Open Clip Art)
    pages      files -> interleaved pages    (the manual of GIMP, the Debian handbook)
    write      img2dataset tars, a Hugging Face parquet file, OBELICS parquet files, jsonl.zst
    benchmark  stamps that are not trained on, with captions and topics

``python -m examples.real_data --out data/real`` runs them all; docs/how-to/real-data.md continues with a training.
"""
