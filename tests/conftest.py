"""Tests run the network with the same TensorFlow options as the scripts do."""

import unet

unet.set_up_backend()
