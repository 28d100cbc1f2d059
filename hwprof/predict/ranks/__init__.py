"""What do several ranks make of a step: merged, waited for, predicted?"""
