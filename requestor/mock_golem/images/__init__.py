"""Images: what they hold (`description`), their files (`gvmi_file`), a registry (`registry`).

What a provider does with them: which one is asked for (`package`), its download (`cache`), its
mount (`mounts`, or else `unpacking`), and all of it together (`library`).
"""
