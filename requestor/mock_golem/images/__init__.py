"""Images: what they hold (`description`), their files (`gvmi_file`), a registry (`registry`)."""
