// A node's public key as other nodes get it (Peer.encryptionKeys): `GENERATION:PORT:KEY`. Two nodes speak with keys of one
// generation, so that each device knows exactly one key of each peer, whatever order changes arrive in.

export interface Announcement {
  /** From 1. All nodes follow the highest that any of them announces. */
  readonly generation: number
  /** UDP port of the device that has the key. */
  readonly port: number
  /** base64, 32 bytes */
  readonly publicKey: string
}

/** Beyond it a number is nonsense. */
const GENERATION_MAX = 0xffffffff

export function formatAnnouncement({ generation, port, publicKey }: Announcement): string {
  return `${generation}:${port}:${publicKey}`
}

/** Undefined for what this version can't read, which is then as if it were not there. */
export function parseAnnouncement(text: string): Announcement | undefined {
  const match = /^(\d{1,10}):(\d{1,5}):([A-Za-z0-9+/]{43}=)$/.exec(text)
  if (!match) return undefined
  const [, generation, port, publicKey] = match
  const announcement = { generation: Number(generation), port: Number(port), publicKey: publicKey ?? '' }
  const valid =
    announcement.generation >= 1 &&
    announcement.generation <= GENERATION_MAX &&
    announcement.port >= 1 &&
    announcement.port <= 65535
  return valid ? announcement : undefined
}

/** Newest first. */
export function parseAnnouncements(texts: readonly string[]): readonly Announcement[] {
  return texts
    .map(parseAnnouncement)
    .filter((announcement) => announcement !== undefined)
    .sort((a, b) => b.generation - a.generation)
}
