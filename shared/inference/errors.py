"""What can go wrong with a model call, each with its stable code."""

from shared.kernel.errors import Conflict, InvalidRequest, Kind, NotFound, ProviderFailed, RunyardError


class ModelNotFound(NotFound):
    """No model or route of this name is offered; GET /v1/models lists them."""

    code = "model_not_found"


class ProviderRefused(InvalidRequest):
    """The provider found fault with the request itself; sending it again won't help."""

    code = "provider_refused_request"


class ContextTooLong(ProviderRefused):
    """The prompt and the answer's limit don't fit into the model's context: shorten the one or lower the other."""

    code = "context_length_exceeded"


class NotServed(InvalidRequest):
    """The request holds something that this model's provider, or no provider here, can take; the message says what."""

    code = "not_supported_by_provider"


class BudgetExceeded(RunyardError):
    """What is left of a budget doesn't pay for this call at its dearest; `details` tell which, and when it begins anew.

    A run's own cap, and an answer's, count as budgets.
    """

    kind = Kind.PAYMENT
    code = "budget_exceeded"


class ProviderRateLimited(ProviderFailed):
    """The model provider limits the rate; wait for as long as Retry-After says."""

    kind = Kind.RATE_LIMITED
    code = "provider_rate_limited"


class ProviderTimedOut(ProviderFailed):
    """The model provider did not answer in time."""

    code = "provider_timed_out"


class ProviderUnreachable(ProviderFailed):
    """The model provider can't be connected to, or hung up before it answered."""

    code = "provider_unreachable"


class ProviderSuspended(ProviderFailed):
    """The model failed several times in a row and isn't asked for a moment."""

    code = "provider_suspended"


class ProviderAnsweredWrongly(ProviderFailed):
    """The model provider answered with something that is no answer."""

    code = "provider_answered_wrongly"


class StreamBroken(ProviderFailed):
    """The provider's stream ended in the middle of the answer; what came before is charged by our own count."""

    code = "stream_broken"


class ProviderMisconfigured(ProviderFailed):
    """The provider refuses the account that it was asked with: for whoever keeps its key to mend."""

    code = "provider_misconfigured"
    retryable = False


class AnswerForgotten(Conflict):
    """The same request was answered long ago; its answer was kept for as long as the plan says and is gone."""

    code = "answer_forgotten"
