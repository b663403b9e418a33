"""TFRecord shards -> trained attention U-Net -> hypoperfused volume and target mismatch.

Research software, not a medical device.
"""

__version__ = "0.1.0"
