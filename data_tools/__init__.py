"""Patients on disk -> TFRecord shards of slabs. Knows no model."""
