// "Did you mean this?": the known words nearest to a mistyped one.

/** Known words within two edits, or that begin with `word`; nearest first. */
export function closest(word: string, known: readonly string[]): string[] {
  return known
    .map((name) => ({ name, distance: name.startsWith(word) && word.length > 1 ? 1 : distance(word, name) }))
    .filter(({ name, distance }) => distance <= Math.min(2, Math.floor(Math.max(name.length, word.length) / 2)))
    .sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1))
    .slice(0, 3)
    .map(({ name }) => name)
}

/** Edits (insert, delete, replace, swap neighbours) from `a` to `b`. */
export function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min(row[j - 1]! + 1, rows[i - 1]![j]! + 1, rows[i - 1]![j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, rows[i - 2]![j - 2]! + 1)
      row.push(cost)
    }
    rows.push(row)
  }
  return rows[a.length]![b.length]!
}
