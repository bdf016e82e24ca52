"""The balancer as a resource of a twisted.web ``Site``. Floor 4."""

from stickyproxy.wires.resource.request import AffinityRequest, IStreamingResource
from stickyproxy.wires.resource.resource import AffinityResource

__all__ = ["AffinityRequest", "AffinityResource", "IStreamingResource"]
