"""The way to the API server of Kubernetes: from inside its cluster, or by a kubeconfig.

What it is made with is optional: the extra `kubernetes`.
"""

import logging
from typing import Any

from rqueue.errors import Refused


async def settings() -> Any:
    """What kubernetes_asyncio's client needs: with the pod's own ServiceAccount, or the kubeconfig's user.

    Raises Refused where the extra is missing, or there is no cluster.
    """
    try:
        from kubernetes_asyncio import client, config
    except ImportError:
        raise Refused("needs the extra: pip install 'rqueue[kubernetes]'") from None
    # At level debug it logs the answers, and those hold tokens.
    logging.getLogger("kubernetes_asyncio").setLevel(logging.INFO)
    settings = client.Configuration()
    try:
        # The pod's own token changes every hour; what this loads reads its file again every minute.
        config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        try:
            await config.load_kube_config(client_configuration=settings)
        except config.ConfigException as error:
            raise Refused(f"no cluster to ask: {error}") from None
    return settings
