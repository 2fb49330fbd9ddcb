"""Messages of the kubelet's plugin protocols, generated from the .proto files beside."""
