// What somebody took out of the host's table. Counts are compared and not texts: nft prints rules in other words than it reads, and
// what is there is told by what `nft list` printed before (RuleKeeper).

/** @param text a table, as nft reads or prints it: how many rules stand in each chain */
export function rulesByChain(text: string): ReadonlyMap<string, number> {
  return new Map(
    [...text.matchAll(/^\s+chain (\S+) \{\n([\s\S]*?)^\s+\}$/gm)].map(([, name = '', body = '']) => [
      name,
      body.split('\n').filter((line) => /^\s+[^\s#]/.test(line) && !/^\s+type \S+ hook /.test(line)).length,
    ]),
  )
}

/**
 * @param listing what `nft list table` prints
 * @returns chains that are gone or have fewer rules, sets that have fewer elements; for people
 */
export function hostHoles(
  listing: string,
  rules: ReadonlyMap<string, number>,
  elements: ReadonlyMap<string, number>,
): readonly string[] {
  const there = rulesByChain(listing)
  const sets = elementsBySet(listing)
  return [
    ...[...rules].flatMap(([name, count]) => ((there.get(name) ?? -1) < count ? [`chain ${name}`] : [])),
    ...[...elements].flatMap(([name, count]) => ((sets.get(name) ?? 0) < count ? [`set ${name}`] : [])),
  ]
}

function elementsBySet(listing: string): ReadonlyMap<string, number> {
  return new Map(
    [...listing.matchAll(/^\s+set (\S+) \{\n([\s\S]*?)^\s\}$/gm)].map(([, name = '', body = '']) => {
      const list = /elements = \{([^}]*)\}/.exec(body)?.[1] ?? ''
      return [name, list.trim() === '' ? 0 : list.split(',').length]
    }),
  )
}
