"""HTTP API of the model gateway, OpenAI's own: chat completions, responses, embeddings, models.

`handler` answers API Gateway's events, where an answer comes in one piece; `app` is what uvicorn serves (run.sh): there
answers stream.
"""

from shared.inference import gateway
from shared.inference.edge.app import create
from shared.inference.edge.description import router as router  # what the OpenAPI document is made of
from shared.kernel.http import handler_of

app = create(gateway)
handler = handler_of(app)
