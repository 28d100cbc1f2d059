"""What did Nsight Compute count?"""
