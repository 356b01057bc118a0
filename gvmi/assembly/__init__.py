"""How an image comes to be; start with `building.py`, or with `docker_way.py`."""
