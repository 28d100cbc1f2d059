"""What does the machine do beside the run: clocks, power, memory, busy units?"""
