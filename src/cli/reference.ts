// Image references as Docker's client treats them: default tag and digest pinning before a service is sent, and the
// short form that tables show.

const DIGEST = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}$/
const TAG = /^\w[\w.-]{0,127}$/
const DOMAIN =
  /^(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)(?::[0-9]+)?$/
const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/

export interface ImageReference {
  /** Without Docker Hub's defaults: "nginx", "user/app", "host:5000/app". */
  readonly familiarName: string
  /** Registry host: "docker.io" unless named. */
  readonly domain: string
  readonly tag: string
  readonly digest: string
}

/** undefined where the text is no reference (a 64-digit id is none either). */
export function parseReference(text: string): ImageReference | undefined {
  if (/^[a-f0-9]{64}$/.test(text)) return undefined
  const at = text.indexOf('@')
  const digest = at < 0 ? '' : text.slice(at + 1)
  if (at >= 0 && !DIGEST.test(digest)) return undefined
  const named = at < 0 ? text : text.slice(0, at)
  const colon = named.lastIndexOf(':')
  const hasTag = colon > named.lastIndexOf('/')
  const tag = hasTag ? named.slice(colon + 1) : ''
  if (hasTag && !TAG.test(tag)) return undefined
  const name = hasTag ? named.slice(0, colon) : named
  const slash = name.indexOf('/')
  const first = slash < 0 ? '' : name.slice(0, slash)
  const hasDomain = first.includes('.') || first.includes(':') || first === 'localhost' || first.toLowerCase() !== first
  let domain = hasDomain ? first : 'docker.io'
  let path = hasDomain ? name.slice(slash + 1) : name
  if (domain === 'index.docker.io') domain = 'docker.io'
  if (domain === 'docker.io' && !path.includes('/')) path = `library/${path}`
  if (!DOMAIN.test(domain) || !path.split('/').every((part) => COMPONENT.test(part))) return undefined
  const short = domain === 'docker.io' ? path.replace(/^library\/(?=[^/]+$)/, '') : `${domain}/${path}`
  return { familiarName: short, domain, tag, digest }
}

export function formatReference(reference: ImageReference): string {
  const tag = reference.tag === '' ? '' : `:${reference.tag}`
  const digest = reference.digest === '' ? '' : `@${reference.digest}`
  return `${reference.familiarName}${tag}${digest}`
}

/** The familiar form with `:latest` added where there is neither tag nor digest; what is no reference stays as it is. */
export function withDefaultTag(image: string): string {
  const reference = parseReference(image)
  if (!reference) return image
  const bare = reference.tag === '' && reference.digest === ''
  return formatReference(bare ? { ...reference, tag: 'latest' } : reference)
}

/** Pins `image` to `digest` unless it is pinned. */
export function withDigest(image: string, digest: string): string {
  const reference = parseReference(image)
  return reference === undefined || reference.digest !== '' ? image : formatReference({ ...reference, digest })
}

/** As tables show it: the digest goes where there is a tag beside it. */
export function displayImage(image: string): string {
  const reference = parseReference(image)
  return !reference || reference.tag === '' ? image : formatReference({ ...reference, digest: '' })
}
