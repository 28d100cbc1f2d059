"""Deployments and layouts that tests of serving share."""

from __future__ import annotations

import numpy as np

from hwprof.deploy.formats import formats_of
from hwprof.deploy.kernels import Share
from hwprof.deploy.links import links_of
from hwprof.deploy.names import known_model
from hwprof.deploy.passes import Deployment
from hwprof.specs.catalogue.lookup import load_device


def deployment(model="llama-3.1-70b", device="h100-sxm5-80gb", word="fp8"):
    served, found = known_model(model), load_device(device)
    return Deployment(model=served, device=found, formats=formats_of(served, found, word), links=links_of(found.id))


def ranks(*tp, dp=1.0, ep=1.0):
    tp = np.array(tp, dtype=float)
    one = np.ones(len(tp))
    return Share(tp=tp, dp=dp * one, ep=ep * one, moe_tp=tp * dp / ep, pp=one)
