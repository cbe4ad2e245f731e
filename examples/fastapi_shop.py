"""Orders behind FastAPI: `celery -A fastapi_shop worker`, `uvicorn fastapi_shop:api`; see `__main__` for requests.

The server's event loop is never blocked; requests that wait share a connection.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from celery import Celery
from fastapi import FastAPI, HTTPException, Request

from stabilize_celery import AsyncClient, Stabilize, StageExecution, TaskExecution, TaskResult, Workflow
from stabilize_celery.errors import WorkflowNotFoundError

URL = os.environ.get("STABILIZE_REDIS_URL", "redis://localhost:6379/0")
app = Celery("fastapi_shop", broker=URL)
stabilize = Stabilize(app, redis_url=URL)


@stabilize.task("charge")
def charge(stage: StageExecution) -> TaskResult:
    return TaskResult.success(outputs={"receipt": f"receipt of order {stage.context['order_id']}"})


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, AsyncClient]]:
    async with AsyncClient(URL, URL) as client:
        yield {"client": client}


api = FastAPI(lifespan=lifespan)


@api.post("/orders/{order_id}", status_code=202)
async def place(order_id: int, request: Request) -> dict[str, str]:
    pay = StageExecution(ref_id="pay", tasks=[TaskExecution.create("charge", "charge")])
    order = Workflow.create("shop", "order", [pay], context={"order_id": order_id})
    # The key makes a request that is sent twice one order.
    handle = await request.state.client.start(order, idempotency_key=f"fastapi-order-{order_id}")
    return {"workflow": handle.id}


@api.get("/workflows/{workflow_id}")
async def look(workflow_id: str, request: Request) -> dict[str, Any]:
    try:
        order = await request.state.client.handle(workflow_id).wait(timeout_s=30)
    except WorkflowNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    except TimeoutError as error:
        raise HTTPException(504, "it is not done yet: ask again") from error
    return {"status": order.status.name, "receipt": order.get_context().get("receipt")}


if __name__ == "__main__":
    # curl -X POST localhost:8000/orders/7; curl localhost:8000/workflows/ID
    uvicorn.run(api, port=int(os.environ.get("PORT", "8000")))
