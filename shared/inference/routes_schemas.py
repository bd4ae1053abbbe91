"""Public JSON of routes."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from shared.inference.policy import Candidate, Conditions, Ensemble, Fault, Route, Strategy
from shared.inference.routes_model import MOST_CANDIDATES, StoredRoute
from shared.kernel.fields import Input, Output, RouteId

_EXAMPLE = "gpt-5-mini"
ModelName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=200,
        description="One of GET /v1/models, or `provider/model` for a model by its provider's own name.",
        examples=[_EXAMPLE],
    ),
]
Task = Annotated[str, Field(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=0, le=100_000_000)]
Seconds = Annotated[float, Field(gt=0, le=900)]
RouteName = Annotated[
    str, Field(pattern=r"^[a-z0-9-]{1,64}$", description="1 to 64 of a-z, 0-9 and -; no model's.", examples=["draft"])
]


class ConditionsIO(Input):
    """When a candidate is fit for a request; what is left out doesn't matter."""

    tasks: Annotated[
        list[Task], Field(max_length=16, description="The request's `x-runyard-task` is one of these.")
    ] = []
    min_input_tokens: Annotated[Count | None, Field(description="By our own estimate of the prompt.")] = None
    max_input_tokens: Count | None = None
    tools: Annotated[bool | None, Field(description="The request must, or must not, have tools.")] = None
    images: Annotated[bool | None, Field(description="The request must, or must not, have images.")] = None
    max_price_microusd: Annotated[
        Annotated[int, Field(ge=0, le=10_000_000_000)] | None,
        Field(description="What the call probably costs, at most."),
    ] = None
    max_latency_ms: Annotated[
        Annotated[int, Field(ge=1, le=900_000)] | None,
        Field(description="The model's recent median time to the first token, at most, where one is known."),
    ] = None

    def to_model(self) -> Conditions:
        return Conditions(**(self.model_dump() | {"tasks": frozenset(self.tasks)}))

    @classmethod
    def of(cls, found: Conditions) -> Self:
        return cls(
            tasks=sorted(found.tasks),
            min_input_tokens=found.min_input_tokens,
            max_input_tokens=found.max_input_tokens,
            tools=found.tools,
            images=found.images,
            max_price_microusd=found.max_price_microusd,
            max_latency_ms=found.max_latency_ms,
        )


class CandidateIO(Input):
    """A model that requests of the route may go to."""

    model: ModelName
    weight: Annotated[int, Field(ge=0, le=1000, description="With `weighted`; 0: only as a fallback.")] = 1
    when: ConditionsIO = ConditionsIO()
    timeout_s: Annotated[Seconds | None, Field(description="For one attempt.")] = None
    first_token_s: Annotated[Seconds | None, Field(description="For a stream's first token.")] = None

    def to_model(self) -> Candidate:
        return Candidate(
            model=self.model,
            weight=self.weight,
            when=self.when.to_model(),
            timeout_s=self.timeout_s,
            first_token_s=self.first_token_s,
        )

    @classmethod
    def of(cls, found: Candidate) -> Self:
        return cls(
            model=found.model,
            weight=found.weight,
            when=ConditionsIO.of(found.when),
            timeout_s=found.timeout_s,
            first_token_s=found.first_token_s,
        )


class EnsembleIO(Input):
    """Several candidates answer, and a judge picks one answer; every answer is paid."""

    n: Annotated[int, Field(ge=2, le=8, description="How many candidates answer, of those that are fit.")]
    judge: ModelName


class WriteRoute(Input):
    """A policy as a whole: what is left out takes its default."""

    name: RouteName
    candidates: Annotated[
        list[CandidateIO],
        Field(
            min_length=1,
            max_length=MOST_CANDIDATES,
            description="In the order in which they are asked.",
            examples=[[{"model": _EXAMPLE}]],
        ),
    ]
    strategy: Annotated[
        Strategy, Field(description="Which candidate is asked first; the others follow in their order.")
    ] = Strategy.ORDERED
    fall_back_on: Annotated[
        list[Fault] | None, Field(description="After what kinds of failure the next is asked; by default all.")
    ] = None
    max_attempts: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 3
    ensemble: EnsembleIO | None = None

    def to_model(self) -> Route:
        return Route(
            name=self.name,
            candidates=tuple(candidate.to_model() for candidate in self.candidates),
            strategy=self.strategy,
            fall_back_on=frozenset(Fault if self.fall_back_on is None else self.fall_back_on),
            max_attempts=self.max_attempts,
            ensemble=None if self.ensemble is None else Ensemble(n=self.ensemble.n, judge=self.ensemble.judge),
        )


class RouteOut(Output):
    """A route: its name is used as a model's. `version` counts its changes."""

    id: RouteId
    object: Literal["route"] = "route"
    name: str
    version: int
    candidates: list[CandidateIO]
    strategy: Strategy
    fall_back_on: list[Fault]
    max_attempts: int
    ensemble: EnsembleIO | None
    created_by: str = Field(examples=["user_01h455vb4pex5vsknk084sn02q"])
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, stored: StoredRoute) -> Self:
        route = stored.route
        return cls(
            id=stored.id,
            name=route.name,
            version=stored.version,
            candidates=[CandidateIO.of(candidate) for candidate in route.candidates],
            strategy=route.strategy,
            fall_back_on=sorted(route.fall_back_on),
            max_attempts=route.max_attempts,
            ensemble=None if route.ensemble is None else EnsembleIO(n=route.ensemble.n, judge=route.ensemble.judge),
            created_by=stored.created_by,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
        )
