"""The embedded server: TensorFlow Serving's REST and gRPC interface from Python.

For a laptop or a test. ``policies`` says what is served, ``repository`` loads and replaces
``version`` after version, which ``onnx_model`` or ``tensorflow_model`` answers for, ``runner``
batches and limits, ``tensors``, ``json_arrays`` and ``rest`` speak JSON, ``grpc_service`` protocol
buffers, ``http_protocol`` and ``held_memory`` keep clients from holding it, ``embedded`` starts and
stops them together. In production TensorFlow Serving itself stands in
its place; the folders and requests are the same.
"""
