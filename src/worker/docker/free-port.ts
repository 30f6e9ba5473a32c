// Host-mode ports without a number of their own get one that is free on this node just now, as the engine would give it.

import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { addressesOfPort } from '../../api/publish-addresses.ts'
import type { Labels, PortConfig } from '../../api/spec.ts'
import type { HostModePort } from '../../overlay/desired-state.ts'

/** @param labels of the service: which addresses the ports are for */
export function numbered(ports: readonly PortConfig[], labels?: Labels): Promise<readonly HostModePort[]> {
  return Promise.all(
    ports.map(async (port) => {
      const { Protocol: protocol = 'tcp', PublishedPort: published = 0, TargetPort: target = 0 } = port
      const addresses = addressesOfPort(labels, port)
      return {
        protocol,
        published: published || (await freePort(protocol)),
        target,
        ...(addresses.length > 0 && { addresses }),
      }
    }),
  )
}

async function freePort(protocol: HostModePort['protocol']): Promise<number> {
  if (protocol === 'udp') {
    const socket = createSocket('udp4')
    socket.bind(0)
    await once(socket, 'listening')
    const { port } = socket.address()
    socket.close()
    return port
  }
  const server = createServer()
  server.listen(0)
  await once(server, 'listening')
  const address = server.address()
  server.close()
  return typeof address === 'object' && address !== null ? address.port : 0
}
