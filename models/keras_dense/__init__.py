"""keras_dense: one Dense(1) on two inputs in Keras, y = W x + b: equivalent to simple_nn."""
