"""Which layers of a module need not run to be captured, since an equal one did?"""
