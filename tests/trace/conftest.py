"""The traces that these tests read."""

from traces import compiled_file, gpu_file, gpu_trace, torch_file, torch_files, torch_trace, written

__all__ = ["compiled_file", "gpu_file", "gpu_trace", "torch_file", "torch_files", "torch_trace", "written"]
