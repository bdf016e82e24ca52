"""One HTTP request and its answer, whatever face the client has. Floor 3.

``connection`` is the backend's side: an HTTP/1.1 connection that is used for one exchange after another. ``exchange``
chooses, connects, sends, retries and receives. The client's side is a ``ClientSide``: a wire of our own
(``wires.http``) or twisted.web's (``wires.resource``).
"""
