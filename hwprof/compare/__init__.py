"""What changed between two runs, or between two traces, and by how much beyond noise?"""
