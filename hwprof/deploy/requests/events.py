"""When does each request of a server get its tokens? A simulation pass by pass, with the engines' ways of batching.

A pass takes as long as its decoding sequences and its prompts' tokens say (``PassCosts``, from the same passes as the
closed form). Between two events nothing changes but that sequences grow, so that many passes are one step here.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np

from hwprof.deploy.engine import Policy
from hwprof.deploy.kernels import Floats
from hwprof.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCosts:
    """What passes take on one server.

    Attributes:
        sequences, step_s: seconds of a decode pass at numbers of sequences, rising; between them straight lines.
        prompt_token_s: each token of a prompt in a pass of many.
        request_s: each request before its first pass.
        hand_over_s: to bring a cache from a prompt's server to the one that generates.
        room: sequences that fit.
        budget: tokens of a pass.
        accepted: tokens that a pass gives each sequence.
    """

    sequences: tuple[float, ...]
    step_s: tuple[float, ...]
    prompt_token_s: float
    request_s: float
    hand_over_s: float
    room: int
    budget: int
    accepted: float = 1.0

    def pass_s(self, sequences: int) -> float:
        """Seconds of one decode pass; none takes none."""
        return float(np.interp(sequences, self.sequences, self.step_s)) if sequences else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """What arrives; arrays of one a request, in order of arrival.

    Attributes:
        arrival_s: when; with ``users`` only the first requests' count, the others come when one is answered.
        prompt, new: tokens.
        users: requests under way at once; 0 = they arrive on their own.
    """

    arrival_s: Floats
    prompt: Floats
    new: Floats
    users: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """When requests were answered; arrays of one a request.

    Attributes:
        ttft_s: from arrival to the first token.
        tpot_s: each further token, in the mean of the request.
        end_s: when the last token came.
    """

    ttft_s: Floats
    tpot_s: Floats
    end_s: Floats

    def steady(self, share: float = 0.25) -> Answers:
        """Without the first and the last requests, while the server fills and empties."""
        order = np.argsort(self.end_s)
        cut = int(len(order) * share)
        kept = order[cut : len(order) - cut]
        return Answers(ttft_s=self.ttft_s[kept], tpot_s=self.tpot_s[kept], end_s=self.end_s[kept])

    @property
    def request_per_s(self) -> float:
        """Requests answered over time, between the first and the last answer."""
        return (len(self.end_s) - 1) / float(self.end_s.max() - self.end_s.min())


def poisson(rate_per_s: float, count: int, prompt: float, new: float, seed: int) -> Requests:
    """Requests that come at random, so many a second in the mean, all alike."""
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    return Requests(arrival_s=np.cumsum(gaps), prompt=np.full(count, prompt), new=np.full(count, new))


def closed_loop(users: int, count: int, prompt: float, new: float, seed: int) -> Requests:
    """Users who each send their next request when the last one is answered.

    Lengths of answers are spread evenly by a half both ways, so that users do not stay in step.
    """
    spread = np.random.default_rng(seed).uniform(0.5, 1.5, count)
    lengths = np.maximum(np.round(new * spread), 1.0)
    return Requests(arrival_s=np.zeros(count), prompt=np.full(count, prompt), new=lengths, users=users)


class _Server:
    """One server that generates: who waits, who runs, what time it is."""

    def __init__(self, requests: Requests, costs: PassCosts, policy: Policy, *, apart: int) -> None:
        self.requests, self.costs, self.policy = requests, costs, policy
        self.apart = [0.0] * apart
        self.now_s = 0.0
        count = len(requests.arrival_s)
        self.arrived_s = requests.arrival_s.copy()
        self.first_s, self.end_s = np.zeros(count), np.zeros(count)
        self.left = requests.prompt.copy()
        self.due = np.maximum(requests.new - 1, 0.0)
        self.waiting: deque[int] = deque()
        self.running: list[int] = []
        self.coming = [(float(when), number) for number, when in enumerate(requests.arrival_s)]
        self.next_user = count
        if requests.users:
            self.coming = self.coming[: requests.users]
            self.next_user = requests.users
        self.coming = [self._through_prompts(when, number) for when, number in self.coming]
        heapq.heapify(self.coming)

    def _through_prompts(self, when_s: float, number: int) -> tuple[float, int]:
        """When a request that arrives is at this server: at once, or through a server for prompts."""
        ready_s = when_s + self.costs.request_s
        if self.apart:
            start_s = max(ready_s, heapq.heappop(self.apart))
            ready_s = start_s + self.costs.prompt_token_s * float(self.requests.prompt[number])
            heapq.heappush(self.apart, ready_s)
            self.first_s[number] = ready_s + self.costs.hand_over_s
            ready_s = self.first_s[number]
            self.left[number] = 0.0
        return ready_s, number

    def run(self) -> Answers:
        while self.coming or self.waiting or self.running:
            self._admit()
            if not self.waiting and not self.running:
                self.now_s = max(self.now_s, self.coming[0][0])
                continue
            self._pass()
        new = self.requests.new
        each_s = (self.end_s - self.first_s) / np.maximum(new - 1, 1)
        return Answers(ttft_s=self.first_s - self.arrived_s, tpot_s=each_s, end_s=self.end_s)

    def _admit(self) -> None:
        while self.coming and self.coming[0][0] <= self.now_s:
            _, number = heapq.heappop(self.coming)
            self.waiting.append(number)

    def _pass(self) -> None:
        """One pass; or, where only sequences run, as many as until the next event."""
        prompts, tokens = self._chosen()
        if self.apart:  # whose prompts are read elsewhere: they are decoded from this pass on
            for number in prompts:
                self._begin(number)
            prompts = []
        decoding = [] if tokens and self.policy == "prompts first" else list(self.running)
        lasts_s = self.costs.pass_s(len(decoding)) + tokens * self.costs.prompt_token_s
        times = 1 if tokens or self.waiting else self._until_event(lasts_s)
        self.now_s += times * lasts_s
        for number in prompts:
            if self.left[number] <= 0:
                self._begin(number)
        if decoding:
            self._grow(decoding, times)

    def _chosen(self) -> tuple[list[int], float]:
        """Prompts that go into this pass, with how many tokens; they leave the queue when they are through."""
        room = self.costs.room - len(self.running)
        budget = float(self.costs.budget) - (len(self.running) if self.policy == "mixed" else 0.0)
        chosen: list[int] = []
        tokens = 0.0
        while self.waiting and room > 0:
            number = self.waiting[0]
            left = float(self.left[number])
            if tokens and left > budget - tokens and self.policy != "mixed":
                break
            taken = min(left, budget - tokens) if self.policy == "mixed" else left
            if taken <= 0 < left:
                break
            self.left[number] -= taken
            tokens += taken
            chosen.append(number)
            if self.left[number] > 0:
                break
            self.waiting.popleft()
            room -= 1
        return chosen, tokens

    def _begin(self, number: int) -> None:
        """A prompt is through, which gives the first token."""
        if not self.apart:
            self.first_s[number] = self.now_s
        if self.due[number] > 0:
            self.running.append(number)
        else:
            self._answer(number)

    def _until_event(self, lasts_s: float) -> int:
        """Passes until a sequence ends or a request comes."""
        least = float(self.due[self.running].min()) if self.running else 0.0
        times = max(1, int(np.ceil(least / self.costs.accepted)))
        if self.coming and lasts_s > 0:
            gap_s = self.coming[0][0] - self.now_s
            times = min(times, max(1, int(np.ceil(gap_s / lasts_s))))
        return times

    def _grow(self, decoding: list[int], times: int) -> None:
        self.due[decoding] -= times * self.costs.accepted
        ended = [number for number in decoding if self.due[number] <= 0]
        for number in ended:
            self.running.remove(number)
            self._answer(number)

    def _answer(self, number: int) -> None:
        self.end_s[number] = self.now_s
        if self.requests.users and self.next_user < len(self.arrived_s):
            self.arrived_s[self.next_user] = self.now_s
            heapq.heappush(self.coming, self._through_prompts(self.now_s, self.next_user))
            self.next_user += 1


def simulated(requests: Requests, costs: PassCosts, policy: Policy, *, prompt_servers: int = 0) -> Answers:
    """Times of all requests.

    Args:
        requests: what arrives.
        costs: what passes take.
        policy: how prompts join.
        prompt_servers: groups of servers that prompts have for themselves; 0 = none.

    Raises:
        InputError: a request is longer than the server's tokens of a pass allow, or there is none.
    """
    if not len(requests.arrival_s):
        raise InputError("there is no request", expectation="at least one")
    if costs.room < 1:
        raise InputError("the server has room for no sequence", expectation="room for at least one")
    if (np.diff(requests.arrival_s) < 0).any():
        raise InputError("requests are not in order of arrival", remedy="sort them by arrival_s")
    return _Server(requests, costs, policy, apart=prompt_servers).run()
