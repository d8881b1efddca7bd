"""Gates for the templates, scripts and workflows that can be run without Azure. Entry point: `infra/check`."""
