"""The embedded server: TensorFlow Serving's REST and gRPC interface from Python.

For a laptop or a test. ``repository`` loads and replaces versions, ``runner`` batches and limits,
``tensors`` and ``rest`` speak JSON, ``grpc_service`` protocol buffers. In production TensorFlow
Serving itself stands in its place; the folders and requests are the same.
"""
