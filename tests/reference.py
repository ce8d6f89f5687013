"""The methods as their equations stand, for the l1 norm, in float64 numpy.

J(theta) = lam |theta|_1. Nothing here knows Keras or the library.
"""

import numpy as np


def _prox(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def _bregman(theta, directions, lam, delta):
    v = theta / delta + lam * np.sign(theta)
    for d in directions:
        v = v - d
        yield _prox(delta * v, delta * lam)


def linbreg(theta, gradients, tau, lam, delta, momentum=0, nesterov=False):
    def directions(m=0.0):
        for g in gradients:
            m = momentum * m + (1 - momentum) * tau * g
            look = momentum * m + (1 - momentum) * tau * g
            yield look if nesterov else m

    return _bregman(theta, directions(), lam, delta)


def adabreg(theta, gradients, tau, lam, delta, betas=(0.9, 0.999), eps=1e-8):
    def directions(m=0.0, s=0.0):
        for t, g in enumerate(gradients, 1):
            m = betas[0] * m + (1 - betas[0]) * g
            s = betas[1] * s + (1 - betas[1]) * g**2
            m_hat, s_hat = m / (1 - betas[0] ** t), s / (1 - betas[1] ** t)
            yield tau * m_hat / (np.sqrt(s_hat) + eps)

    return _bregman(theta, directions(), lam, delta)


def proxgd(theta, gradients, tau, lam):
    for g in gradients:
        theta = _prox(theta - tau * g, tau * lam)
        yield theta
