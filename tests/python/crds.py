"""The shape of the custom resources that the chart renders: only the fields it uses, anything else is refused.

Written by hand after the definitions of RabbitMQ's cluster and messaging topology operators (rabbitmq.com/v1beta1), Prometheus'
operator (monitoring.coreos.com/v1) and KEDA (keda.sh/v1alpha1).
"""

TEXT = {"type": "string", "minLength": 1}
FLAG = {"type": "boolean"}
NUMBER = {"type": "integer", "minimum": 0}
ANY = {"type": "object"}
LABELS = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$"}
PERMISSION = {"type": "string", "format": "regex"}


def record(required=(), **properties):
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def listed(items):
    return {"type": "array", "minItems": 1, "items": items}


def resource(api_version, kind, spec):
    metadata = record(("name", "namespace"), name=TEXT, namespace=TEXT, labels=LABELS, annotations=LABELS)
    whole = record(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": api_version}, kind={"const": kind}, metadata=metadata, spec=spec,
    )
    return (api_version, kind), whole


CLUSTER = {
    "oneOf": [
        record(("name",), name=TEXT, namespace=TEXT),
        record(("connectionSecret",), connectionSecret=record(("name",), name=TEXT)),
    ]
}


def rabbitmq(kind, required, **properties):
    spec = record(("rabbitmqClusterReference", *required), rabbitmqClusterReference=CLUSTER, **properties)
    return resource("rabbitmq.com/v1beta1", kind, spec)


QUANTITY = {"type": "string", "pattern": "^[0-9]+(m|[KMGT]i?)?$"}
RESOURCES = record(("requests", "limits"), **{
    name: {"type": "object", "additionalProperties": QUANTITY} for name in ("requests", "limits")
})
TOLERATION = record(
    (), key=TEXT, operator={"enum": ["Exists", "Equal"]}, value=TEXT, effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
)
SECCOMP = record(("type",), type={"enum": ["RuntimeDefault", "Localhost"]})
HARDENED = listed(record(("name",), name={"enum": ["setup-container", "rabbitmq"]}, securityContext=record(
    (), allowPrivilegeEscalation=FLAG, capabilities=record((), drop=listed(TEXT)), runAsNonRoot=FLAG, seccompProfile=SECCOMP,
)))
# The operator's pod is patched with it. Its containers are required, as in every pod's spec.
POD_PATCH = record(
    ("containers",), enableServiceLinks=FLAG, securityContext=record((), runAsNonRoot=FLAG, seccompProfile=SECCOMP),
    initContainers=HARDENED, containers=HARDENED,
    topologySpreadConstraints=listed(record(
        ("maxSkew", "topologyKey", "whenUnsatisfiable"), maxSkew=NUMBER, topologyKey=TEXT,
        whenUnsatisfiable={"enum": ["ScheduleAnyway", "DoNotSchedule"]}, labelSelector=record((), matchLabels=LABELS),
    )),
)
RABBITMQ_CLUSTER = record(
    (),
    replicas=NUMBER, image=TEXT, imagePullSecrets=listed(record(("name",), name=TEXT)),
    persistence=record((), storage=QUANTITY, storageClassName=TEXT), resources=RESOURCES, tls=record((), secretName=TEXT),
    affinity=record((), nodeAffinity=ANY, podAffinity=ANY, podAntiAffinity=ANY), tolerations=listed(TOLERATION),
    # The cluster operator takes longer texts from 2.10 on.
    rabbitmq=record((), additionalPlugins=listed({"type": "string", "pattern": r"^\w+$"}),
                    additionalConfig={"type": "string", "maxLength": 2000}),
    override=record((), statefulSet=record((), spec=record((), template=record((), spec=POD_PATCH)))),
)

SELECTOR = record(
    (),
    matchLabels=LABELS,
    matchExpressions=listed(record(("key", "operator"), key=TEXT, operator={"enum": ["In", "NotIn"]}, values=listed(TEXT))),
)
ENDPOINT = record(
    ("port",), port=TEXT, path=TEXT, interval=DURATION, scrapeTimeout=DURATION, relabelings=listed(ANY),
    metricRelabelings=listed(ANY),
)
RULE = {
    "oneOf": [
        record(("alert", "expr"), alert=TEXT, expr=TEXT, labels=LABELS, annotations=LABELS, keep_firing_for=DURATION,
               **{"for": DURATION}),
        record(("record", "expr"), record=TEXT, expr=TEXT, labels=LABELS),
    ]
}
SCALING = record(
    (),
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    selectPolicy=TEXT,
    policies=listed(record(("type", "value", "periodSeconds"), type={"enum": ["Percent", "Pods"]}, value=NUMBER,
                           periodSeconds={"type": "integer", "minimum": 1, "maximum": 1800})),
)

SCHEMAS = dict([
    resource("rabbitmq.com/v1beta1", "RabbitmqCluster", RABBITMQ_CLUSTER),
    rabbitmq(
        "Vhost", ("name",), name=TEXT, deletionPolicy={"enum": ["delete", "retain"]},
        limits=record((), connections=NUMBER, queues=NUMBER),
    ),
    rabbitmq(
        "Queue", ("name",), name=TEXT, vhost=TEXT, type={"enum": ["quorum", "classic", "stream"]}, durable=FLAG,
        autoDelete=FLAG, deletionPolicy={"enum": ["delete", "retain"]}, arguments=ANY,
    ),
    rabbitmq(
        "Exchange", ("name",), name=TEXT, vhost=TEXT, type={"enum": ["direct", "topic", "fanout", "headers"]}, durable=FLAG,
        autoDelete=FLAG,
    ),
    rabbitmq(
        "Binding", (), vhost=TEXT, source=TEXT, destination=TEXT, destinationType={"enum": ["queue", "exchange"]},
        routingKey={"type": "string"},
    ),
    rabbitmq(
        "Policy", ("name", "pattern", "definition"), name=TEXT, vhost=TEXT, pattern=PERMISSION, priority=NUMBER,
        applyTo={"enum": ["queues", "classic_queues", "quorum_queues", "streams", "exchanges", "all"]}, definition=ANY,
    ),
    rabbitmq("User", (), tags=listed({"enum": ["management", "policymaker", "monitoring", "administrator"]})),
    rabbitmq(
        "Permission", ("vhost", "permissions"), vhost=TEXT, userReference=record(("name",), name=TEXT),
        permissions=record((), configure=PERMISSION, write=PERMISSION, read=PERMISSION),
    ),
    rabbitmq(
        "TopicPermission", ("vhost", "permissions"), vhost=TEXT, userReference=record(("name",), name=TEXT),
        permissions=record(("exchange",), exchange=TEXT, write=PERMISSION, read=PERMISSION),
    ),
    resource("monitoring.coreos.com/v1", "PodMonitor",
             record(("selector", "podMetricsEndpoints"), selector=SELECTOR, podMetricsEndpoints=listed(ENDPOINT))),
    resource("monitoring.coreos.com/v1", "ServiceMonitor",
             record(("selector", "endpoints"), selector=SELECTOR, endpoints=listed(ENDPOINT))),
    resource("monitoring.coreos.com/v1", "PrometheusRule",
             record((), groups=listed(record(("name", "rules"), name=TEXT, interval=DURATION, limit=NUMBER,
                                             rules=listed(RULE))))),
    resource("keda.sh/v1alpha1", "ScaledObject", record(
        ("scaleTargetRef", "triggers"),
        scaleTargetRef=record(("name",), name=TEXT),
        pollingInterval=NUMBER, cooldownPeriod=NUMBER, minReplicaCount=NUMBER, maxReplicaCount=NUMBER,
        fallback=record(("failureThreshold", "replicas"), failureThreshold=NUMBER, replicas=NUMBER),
        advanced=record((), horizontalPodAutoscalerConfig=record((), behavior=record((), scaleUp=SCALING, scaleDown=SCALING))),
        triggers=listed(record(
            ("type", "metadata"), type={"const": "prometheus"}, metricType={"enum": ["AverageValue", "Value"]},
            metadata=record(("serverAddress", "query", "threshold"), serverAddress=TEXT, query=TEXT, threshold=TEXT,
                            ignoreNullValues={"enum": ["true", "false"]}, authModes=TEXT),
            authenticationRef=record(("name",), name=TEXT),
        )),
    )),
])
