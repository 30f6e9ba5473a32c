// The flags that stand before the command: which daemon to talk to, and how.

import type { Flag } from './command.ts'
import { listType, switchType, textType } from './flags.ts'

export const globalFlags: readonly Flag[] = [
  { name: 'config', type: textType, help: 'Location of client config files', shownDefault: '"~/.docker"' },
  {
    name: 'context',
    short: 'c',
    type: textType,
    help: 'Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with "docker context use")',
    complete: 'context',
  },
  { name: 'debug', short: 'D', type: switchType, help: 'Enable debug mode' },
  { name: 'host', short: 'H', type: listType, help: 'Daemon socket to connect to' },
  { name: 'tls', type: switchType, help: 'Use TLS; implied by --tlsverify' },
  { name: 'tlscacert', type: textType, help: 'Trust certs signed only by this CA', shownDefault: '"~/.docker/ca.pem"' },
  { name: 'tlscert', type: textType, help: 'Path to TLS certificate file', shownDefault: '"~/.docker/cert.pem"' },
  { name: 'tlskey', type: textType, help: 'Path to TLS key file', shownDefault: '"~/.docker/key.pem"' },
  { name: 'tlsverify', type: switchType, help: 'Use TLS and verify the remote' },
  { name: 'version', short: 'v', type: switchType, help: 'Print version information and quit' },
]
