"""Which ceilings stand over the work: measured, calibrated, of a datasheet?"""
