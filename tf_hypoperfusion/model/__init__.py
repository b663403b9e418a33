"""The network: stock Keras layers, and faster ones that take their place in memory."""
