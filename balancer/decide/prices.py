"""Prices of hardware: what a second of each class's slots is worth while the backlog drains.

The fluid program "least time to drain": min T with Σ_h x[y,h] = n_y and Σ_y p[y,h]·x[y,h] + R_h ≤ T·cap_h.
Its dual, max Σ_y n_y·min_h π_h·p[y,h] + Σ_h π_h·R_h with Σ_h π_h·cap_h = 1, gives the prices π.
Solved by a primal-dual interior-point iteration (Mehrotra's predictor and corrector) that works on the
classes only: the lanes are eliminated by hand, so that each step costs one small linear system.
Called by `balancer.decide.order` at every pricing; pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Relative gap between the primal and the dual value at which the iteration stops: a tenth of a percent
#: is far below the error of any duration.
GAP: Final = 1e-3

#: Steps at most; 6 to 15 are usual, and what was reached until then is a valid bound.
STEPS: Final = 60

#: How near to the boundary a step may go, as a share of the longest feasible one.
NEAR: Final = 0.995

#: Share of the uniform prices mixed into a warm start: prices at the boundary are slow to leave it.
WARM_MIX: Final = 0.05

#: Gap assumed of a warm start, relative to T; a cold one assumes 1. From 0.01 prices a turn old need a step
#: less (0.1 ms at 200 × 20), but lie nearer to the edge of the optimum: the makespan of `philly` was 0.003
#: of the bound longer over sixty seeds.
WARM_GAP: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices and what follows from them.

    `price` π (H,) by class, Σ π·cap = 1, 0 where there is no capacity; `value` v (Y,) = min_h π_h·p[y,h]
    by lane, 0 for a lane that nobody can run; `drain_s` the dual value Σ n·v + Σ π·R, a lower bound on
    the time to drain; `committed_s` Σ π·R; `share` x/n (Y, H), what part of a lane each class takes in
    the program, rows of zeros where nothing waits or nobody can run it; `steps` of the iteration.
    """

    price: Array
    value: Array
    drain_s: float
    committed_s: float
    share: Array
    steps: int


def solve(waiting: Array, seconds: Array, capacity: Array, committed: Array,
          warm: Array | None = None) -> Prices:
    """Prices for `waiting` n (Y,) tasks, `seconds` p (Y, H; inf = cannot run), `capacity` (H,) slots and
    `committed` R (H,) slot-seconds of work already taken. `warm` (H,) are earlier prices.

    What is not finite or negative in the inputs counts as nothing: no tasks, cannot run, no capacity.
    """
    n, p, cap, work = _clean(waiting, seconds, capacity, committed)
    lanes, classes = p.shape
    here = np.flatnonzero(cap > 0)
    price, share = np.zeros(classes), np.zeros((lanes, classes))
    if here.size == 0:
        return Prices(price=price, value=np.zeros(lanes), drain_s=0.0, committed_s=0.0, share=share, steps=0)
    able = np.isfinite(p[:, here])
    live = np.flatnonzero((n > 0) & able.any(axis=1))
    rest = work[here] / cap[here]
    load = np.where(able, p[:, here], 0.0)[live] * (n[live, None] / cap[here])
    q, x, steps = _iterate(load, able[live], rest, None if warm is None else warm[here] * cap[here])
    price[here] = q / cap[here]
    share[np.ix_(live, here)] = x
    value = _values(price, p, here)
    held = float(price @ work)
    return Prices(price=price, value=value, drain_s=float(n @ value) + held, committed_s=held,
                  share=share, steps=steps)


def _clean(waiting: Array, seconds: Array, capacity: Array, committed: Array) -> tuple[Array, ...]:
    """Copies without NaN, infinities or negative numbers, p with inf for "cannot run"."""
    n, cap, work = (np.where(np.isfinite(a) & (a > 0), a, 0.0) for a in (waiting, capacity, committed))
    with np.errstate(invalid="ignore"):
        p = np.where(np.isfinite(seconds) & (seconds >= 0), np.maximum(seconds, 1e-9), np.inf)
    return n, p.reshape(n.size, cap.size), cap, work


def _values(price: Array, seconds: Array, here: NDArray[np.intp]) -> Array:
    """v = min_h π_h·p[y,h] over the classes that are there; 0 where nobody can run the lane."""
    if seconds.shape[0] == 0:
        return np.zeros(0)
    at_price = np.where(np.isfinite(seconds[:, here]), price[here], 1.0) * seconds[:, here]
    least = at_price.min(axis=1)
    return np.where(np.isfinite(least), least, 0.0)


def _iterate(load: Array, able: NDArray[np.bool_], rest: Array,
             warm: Array | None) -> tuple[Array, Array, int]:
    """q (H,) on the simplex and shares x (Y, H) for the program min T, load ∘ x + rest ≤ T.

    `load` is n·p/cap (s), `rest` R/cap (s): both divided here by their size, so that T is about 1.
    """
    lanes, classes = load.shape
    scale = float(_spread(load, able).max(initial=0.0) + rest.max(initial=0.0))
    if classes == 1 or lanes == 0 or scale <= 0:
        return _without_choice(rest, able)
    b, r = load / scale, rest / scale
    state, mask = _start(b, able, r, warm), able.astype(np.float64)
    masked = int(able.size - able.sum())
    count = able.size - masked + classes
    steps = 0
    while steps < STEPS:
        gap, top = _gap(state, masked), state[-1]
        if gap <= GAP * max(top - gap, 1e-12):
            break
        following = _step(b, mask, state, gap / count, count)
        if following is None:
            break
        state, steps = following, steps + 1
    x, q = state[0] * mask, state[3]
    return q / q.sum(), x / x.sum(axis=1, keepdims=True), steps


def _spread(load: Array, able: NDArray[np.bool_]) -> Array:
    """Each class's load when every lane is spread evenly over the classes that can run it."""
    even: Array = (load / np.maximum(able.sum(axis=1, keepdims=True), 1)).sum(axis=0)
    return even


def _without_choice(rest: Array, able: NDArray[np.bool_]) -> tuple[Array, Array, int]:
    """One class, or nothing waiting: all weight on the class that is committed longest, or even."""
    q = np.full(rest.size, 1.0 / rest.size)
    if rest.size > 1 and rest.max() > 0:
        q = (rest >= rest.max()).astype(float)
        q /= q.sum()
    return q, able / np.maximum(able.sum(axis=1, keepdims=True), 1), 0


State = tuple[Array, Array, Array, Array, float]


def _start(b: Array, able: NDArray[np.bool_], r: Array, warm: Array | None) -> State:
    """A feasible point near the central path: x, z = q·b − v, slack s, prices q, time T.

    Where a lane cannot run, x and z stay at 1, so that steps need no masks; they are left out of every sum.
    """
    classes = b.shape[1]
    q, assumed = np.full(classes, 1.0 / classes), 1.0
    if warm is not None and np.isfinite(warm).all() and (warm >= 0).all() and warm.sum() > 0:
        q = (1 - WARM_MIX) * warm / warm.sum() + WARM_MIX * q
        assumed = WARM_GAP
    mu = assumed / (able.sum() + classes)
    at_price = np.where(able, q * b, np.inf)
    v = at_price.min(axis=1) - mu * able.sum(axis=1)
    z = np.where(able, q * b - v[:, None], 1.0)
    x = able / z
    x = np.where(able, x / x.sum(axis=1, keepdims=True), 1.0)
    filled = (b * x).sum(axis=0) + r
    top = float((filled + mu / q).max())
    return x, z, top - filled, q, top


def _step(b: Array, mask: Array, state: State, mu: float, count: int) -> State | None:
    """One predictor and corrector step from a feasible point; `None` when numbers ran out. `mask` (Y, H) is 1
    where a class can run a lane, else 0."""
    x, z, s, q, top = state
    newton = _Newton.at(b, mask, state)
    if newton is None:
        return None
    dx, dz, ds, dq, _ = newton.direction(-x * mask, -s)
    primal, dual = min(1.0, _reach(x, dx), _reach(s, ds)), min(1.0, _reach(z, dz), _reach(q, dq))
    ahead = (mu * count + primal * (np.vdot(dx, z) + ds @ q) + dual * (np.vdot(x, dz) + s @ dq)
             + primal * dual * (np.vdot(dx, dz) + ds @ dq))
    aim = mu * min(1.0, max(0.0, float(ahead) / (mu * count))) ** 3
    e = ((aim - dx * dz) / z - x) * mask
    dx, dz, ds, dq, dtop = newton.direction(e, (aim - ds * dq) / q - s)
    primal = min(1.0, NEAR * min(_reach(x, dx), _reach(s, ds)))
    dual = min(1.0, NEAR * min(_reach(z, dz), _reach(q, dq)))
    following = (x + primal * dx, z + dual * dz, s + primal * ds, q + dual * dq, top + primal * dtop)
    return following if math.isfinite(_gap(following) + following[-1]) else None


def _gap(state: State, masked: int = 0) -> float:
    """Σ x·z + Σ s·q, what is between the primal and the dual value, when so many are `masked`; not finite
    where any number is not."""
    x, z, s, q, _ = state
    return float(np.vdot(x, z) - masked + s @ q)


@dataclass(frozen=True, slots=True)
class _Newton:
    """Newton's equations at a feasible point with dx and dv eliminated, factored once for both steps."""

    b: Array
    mask: Array
    d: Array
    g: Array
    total: Array
    slope: Array
    inverse: Array

    @classmethod
    def at(cls, b: Array, mask: Array, state: State) -> _Newton | None:
        """The system at `state`; `None` when it is singular to machine precision."""
        x, z, s, q, _ = state
        d = x / z * mask
        g = d * b
        total = d.sum(axis=1)
        slope: Array = s / q
        classes = q.size
        system = np.ones((classes + 1, classes + 1))
        system[:classes, :classes] = -(g.T @ (g / total[:, None]))
        system.reshape(-1)[:-1:classes + 2] += np.einsum("yh,yh->h", g, b) + slope
        system[classes, classes] = 0.0
        try:
            inverse = np.linalg.inv(system)
        except np.linalg.LinAlgError:
            return None
        return cls(b, mask, d, g, total, slope, inverse.astype(np.float64, copy=False))

    def direction(self, e: Array, f: Array) -> State:
        """dx, dz, ds, dq, dT with z∘dx + x∘dz = z∘e and q∘ds + s∘dq = q∘f that stays feasible."""
        row = e.sum(axis=1)
        right = np.zeros(f.size + 1)
        right[:-1] = np.einsum("yh,yh->h", self.b, e) + f - self.g.T @ (row / self.total)
        answer = self.inverse @ right
        dq = answer[:-1]
        dv = (self.g @ dq - row) / self.total
        dz = (self.b * dq - dv[:, None]) * self.mask
        return e - self.d * dz, dz, f - self.slope * dq, dq, float(answer[-1])


def _reach(point: Array, direction: Array) -> float:
    """How far the positive `point` may go along `direction` until an entry is zero; at most a long way."""
    fastest = float((direction / point).min())
    return min(-1.0 / fastest, 1e6) if fastest < 0 else 1e6
