"""Preview, up and destroy of a stack: by the rehearsal's engine on an emulated cloud, or by Pulumi's CLI."""
