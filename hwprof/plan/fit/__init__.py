"""Does a fine-tuning fit a device, at which batch and length, and how fast is it there?"""
