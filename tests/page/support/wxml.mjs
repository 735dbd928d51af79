// Parses the markup of a mini-program's page, to find errors without the developer tools. In: a text of WXML. Out: its
// elements. Deliberately absent: drawing it.

/** Elements in their order, each `{name, attributes}`; throws if one is not closed. */
export function elements(text) {
  const found = []
  const open = []
  for (const [, end, name, attributes, isEmpty] of text.matchAll(/<(\/?)([a-z][\w-]*)((?:\s+[\w:-]+(?:="[^"]*")?)*)\s*(\/?)>/g)) {
    if (end) {
      const last = open.pop()
      if (last !== name) throw new Error(`</${name}> closes <${last}>`)
      continue
    }
    if (!isEmpty) open.push(name)
    found.push({ name, attributes: Object.fromEntries(Array.from(attributes.matchAll(/([\w:-]+)(?:="([^"]*)")?/g), ([, key, value]) => [key, value ?? ''])) })
  }
  if (open.length) throw new Error(`<${open.pop()}> is not closed`)
  const rest = text.replace(/<[^>]*>/g, '')
  if (/[<>]/.test(rest)) throw new Error('a mark that is no element')
  return found
}

/** The names that the expressions in a text read. */
export function names(text) {
  return Array.from(text.matchAll(/\{\{(.*?)\}\}/g), ([, expression]) => {
    const bare = expression.replace(/'[^']*'/g, '').replace(/\.\s*\w+/g, '')
    return Array.from(bare.matchAll(/[a-zA-Z_]\w*/g), ([name]) => name).filter((name) => name !== 'true' && name !== 'false')
  }).flat()
}
