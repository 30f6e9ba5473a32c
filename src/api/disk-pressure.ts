// A node that is short of disk, as it reports it and as people read it.

/** A file system of a node on which little is left; part of the node's description while that is so. */
export interface DiskPressure {
  /** What lies there: the engine's data root, or swarmd's. */
  readonly Path: string
  /** Not exact: reported anew when it has changed much. */
  readonly FreeBytes: number
  readonly SizeBytes: number
  /** This manager has so little left for the log of the managers that it takes nothing that makes it grow. */
  readonly RefusesWrites?: boolean
}

/** As people measure disks: `1.2 GiB`, `64 MiB`. */
export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const
  let at = 0
  let value = bytes
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024
    at++
  }
  return `${value >= 10 || at === 0 ? Math.round(value) : Math.round(value * 10) / 10} ${units[at]}`
}

/** `disk pressure: 1.2 GiB (3 %) left on /var/lib/docker` */
export function pressureText({ Path, FreeBytes, SizeBytes }: DiskPressure): string {
  const percent = SizeBytes > 0 ? Math.floor((FreeBytes / SizeBytes) * 100) : 0
  return `disk pressure: ${bytesText(FreeBytes)} (${percent} %) left on ${Path}`
}
