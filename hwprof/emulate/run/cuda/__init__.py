"""What does torch say of a CUDA device that is not there: its core, its kernels, its names, its streams?"""
