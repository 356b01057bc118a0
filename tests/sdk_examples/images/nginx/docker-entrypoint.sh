#!/bin/sh
# Stand-in for the entry point of nginx's image: it has nothing to prepare.
exit 0
