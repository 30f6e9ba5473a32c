// At which published ports the host's namespace turns traffic to the fabric: on every address of the node, or on some.

import type { SetElement } from './fragment.ts'

/** What this node serves of the ports that it is told of. */
export interface PortsHere {
  /** `8080/tcp`: open on every address, and somebody else has them here. */
  readonly taken: ReadonlySet<string>
  /** `8080/tcp`, of ports that are not open on every address: those on which it is held. */
  readonly at: ReadonlyMap<string, readonly string[]>
}

export const EVERY_PORT_HERE: PortsHere = { taken: new Set(), at: new Map() }

/** Sets of the host's table: elements `udp . 53`, and `10.0.0.1 . udp . 53`. */
export const PUBLISHED_SET = 'ports'
export const PUBLISHED_AT_SETS = { 4: 'ports_at4', 6: 'ports_at6' } as const

interface Port {
  readonly protocol: string
  readonly published: number
  readonly addresses?: readonly string[]
}

export function publishedElements(
  { protocol, published, addresses = [] }: Port,
  here: PortsHere,
): readonly SetElement[] {
  const port = `${published}/${protocol}`
  const key = `${protocol} . ${published}`
  if (addresses.length === 0) {
    return here.taken.has(port) ? [] : [{ table: 'host', set: PUBLISHED_SET, key, value: '' }]
  }
  return (here.at.get(port) ?? []).map((address) => {
    const set = PUBLISHED_AT_SETS[address.includes(':') ? 6 : 4]
    return { table: 'host', set, key: `${address} . ${key}`, value: '' }
  })
}

/** The port of such an element where it is of UDP. */
export function publishedUdpPort({ table, set, key }: SetElement): number | undefined {
  const isPublished = set === PUBLISHED_SET || set === PUBLISHED_AT_SETS[4] || set === PUBLISHED_AT_SETS[6]
  const [, port] = table === 'host' && isPublished ? (/(?:^| \. )udp \. (\d+)$/.exec(key) ?? []) : []
  return port === undefined ? undefined : Number(port)
}
