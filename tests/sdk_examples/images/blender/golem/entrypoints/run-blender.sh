#!/bin/bash
cd /golem/work
frame=$(jq .frames[0] params.json)
test -s /golem/resource/scene.blend || exit 3
printf -v name 'out%04d.png' $frame
head -c 1000 /golem/resource/scene.blend > /golem/output/$name
echo rendered $name
