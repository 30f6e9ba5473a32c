// Objects as JSON text, encoded once: the store replaces whole objects, so an object's encoding stays true as long as
// the object lives. A listing of thousands is then a concatenation.

/** Remembers what `encode` made of each object; the memory goes with the object. */
export function encodedOnce<T extends object>(encode: (object: T) => unknown): (object: T) => string {
  const known = new WeakMap<T, string>()
  return (object) => {
    const before = known.get(object)
    if (before !== undefined) return before
    const text = JSON.stringify(encode(object))
    known.set(object, text)
    return text
  }
}

/** Adds a field to an encoded object. `value` is JSON. */
export function withField(encoded: string, name: string, value: string): string {
  return `${encoded.slice(0, -1)}${encoded === '{}' ? '' : ','}${JSON.stringify(name)}:${value}}`
}
