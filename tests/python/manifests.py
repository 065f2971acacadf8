"""Checks of Kubernetes objects: against the API's schemas of a version, and against the restricted pod security standard."""

import functools
import json
import pathlib

import jsonschema
import kubernetes_validate
import referencing

import crds

SCHEMAS = pathlib.Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"

# Volumes that the restricted standard allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


@functools.cache
def _definitions(version):
    folder = SCHEMAS / f"v{version}-local-strict"
    return json.loads((folder / "_definitions.json").read_text())


@functools.cache
def _newest_patch(minor):
    """The version of the schemas of a minor version, such as 1.30.0 for 1.30."""
    names = [path.name for path in SCHEMAS.glob(f"v{minor}.*-local-strict")]
    if len(names) != 1:
        raise ValueError(f"there are no schemas, or several, of Kubernetes {minor}: {names}")
    return names[0].removeprefix("v").removesuffix("-local-strict")


@functools.cache
def _validator(version, api_version, kind):
    """What checks objects of a kind; strictly, so that unknown fields are found."""
    custom = crds.SCHEMAS.get((api_version, kind))
    if custom:
        return jsonschema.Draft202012Validator(custom)
    patch = _newest_patch(version)
    group, _, plain = api_version.rpartition("/")
    name = f"{kind}-{group.split('.')[0]}-{plain}" if group else f"{kind}-{plain}"
    path = SCHEMAS / f"v{patch}-local-strict" / f"{name.lower()}.json"
    if not path.exists():
        raise ValueError(f"Kubernetes {version} has no {api_version} {kind}")
    resources = [referencing.Resource.from_contents(json.loads(path.read_text()))]
    resources.append(referencing.Resource.from_contents(_definitions(patch)))
    registry = referencing.Registry()
    for resource in resources:
        registry = resource @ registry
    return jsonschema.Draft202012Validator(resources[0].contents, registry=registry)


def mistakes(document, version):
    """What a Kubernetes of that version would refuse about an object."""
    validator = _validator(version, document["apiVersion"], document["kind"])
    name = f"{document['kind']}/{document['metadata'].get('name')}"
    return [f"{name} in {version}: {error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def insecurities(pod):
    """What the restricted pod security standard, or our own rules beyond it, have against a pod's spec."""
    found = []

    def want(holds, what):
        if not holds:
            found.append(what)

    context = pod.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        want(not pod.get(name), name)
    want(context.get("runAsNonRoot") is True, "runAsNonRoot")
    want(context.get("runAsUser", 1) != 0, "runAsUser 0")
    want(context.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"), "seccompProfile")
    want(not context.get("sysctls"), "sysctls")
    want(pod.get("automountServiceAccountToken") is False, "automountServiceAccountToken")
    want(pod.get("enableServiceLinks") is False, "enableServiceLinks")
    for volume in pod.get("volumes", ()):
        want(volume.keys() - {"name"} <= VOLUMES, f"volume {volume}")
    for one in [*pod.get("initContainers", ()), *pod["containers"]]:
        own = one.get("securityContext", {})
        capabilities = own.get("capabilities", {})
        want(own.get("allowPrivilegeEscalation") is False, "allowPrivilegeEscalation")
        want(own.get("readOnlyRootFilesystem") is True, "readOnlyRootFilesystem")
        want("ALL" in capabilities.get("drop", ()) and not capabilities.get("add"), "capabilities")
        want(not own.get("privileged"), "privileged")
        want(own.get("runAsNonRoot", True) is True and own.get("runAsUser", 1) != 0, "container runs as root")
        want(not any("hostPort" in port for port in one.get("ports", ())), "hostPort")
        want(one.get("resources", {}).get("requests", {}).get("cpu") and one["resources"].get("limits", {}).get("memory"),
             "resources without a request of CPU or a limit of memory")
    return found
