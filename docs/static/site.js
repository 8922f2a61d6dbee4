// What Sphinx's Korean leaves empty in the search.
if (document.documentElement.lang === "ko") {
  const found = "검색을 마쳤습니다. ${resultCount}개를 찾았습니다.";
  const none = "찾는 말이 들어 있는 문서가 없습니다.";
  Documentation.addTranslations({
    locale: "ko",
    plural_expr: "0",
    messages: {
      "Search finished, found one page matching the search query.": [found, found],
      "Your search did not match any documents. Please make sure that all words are spelled correctly and that you've selected enough categories.": none,
    },
  });
}
